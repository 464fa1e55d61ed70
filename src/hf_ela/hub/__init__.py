"""The Hugging Face Hub: the only package that talks to it.

`client` knows tokens and turns what the clients raise into errors of this package; `dataset` and
`model` read, `push` writes.
"""
