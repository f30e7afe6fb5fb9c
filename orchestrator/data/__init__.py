"""The data room: videos in, training samples out.

`prepare` decodes a folder of videos once into memory-mapped shards and a manifest; `corpus`, `stream` and `loader`
serve windows of them; every choice a training run makes is a pure function of (seed, position). The modules are
imported one by one, so that reading a manifest does not load the decoder.
"""
