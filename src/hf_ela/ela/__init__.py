"""Error Level Analysis and what a network sees of it: on the CPU, and the same bits in Keras."""
