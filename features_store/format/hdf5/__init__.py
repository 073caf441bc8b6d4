"""A reader of the few HDF5 structures that a store has, with a bound for each (FORMAT.md, "HDF5").

libhdf5 reads far more than a store holds, and hangs or crashes on some files that were made, or
damaged, to that end. So it writes stores and never reads those of strangers.
"""
