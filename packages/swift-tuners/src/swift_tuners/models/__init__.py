"""Models: from the name that a user gives to a folder, and from the folder to a torch module.

transformers is imported only in here: by `load` for any model, by `gguf` when a GGUF file is unpacked.
"""
