"""How models write coordinates in text; each file here is one notation, and its name is the notation's name."""
