"""The forms in which data sets come: each module here reads one of them."""
