"""Hubs that datasets are fetched from, one file each, named as users spell them before '::'."""
