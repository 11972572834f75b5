"""Known datasets, one file each; `swift_data.dataset_card` says what a card is."""
