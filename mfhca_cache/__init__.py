"""Stage one: manifests, and features computed once into a cache of HDF5 shards."""
