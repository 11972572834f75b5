"""One file per quantizer, found by its name: `--quant_method NAME`, or the config.json of a quantized folder."""
