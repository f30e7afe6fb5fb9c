"""From raw, unaligned video to aligned 25 fps clips of one face each, and a table of them that `prepare` reads.

Shots, then segments in which exactly one face is seen, then a smoothed similarity transform onto LatentSync's
256x256 template. Everything a video shows is in the table: what was kept, and what was left out with its reason.
The libraries that find faces and cuts are the optional extra `[align]`; they are imported only when they are needed.
"""
