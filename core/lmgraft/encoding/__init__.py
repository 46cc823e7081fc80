"""Turns a corpus into packed tokens at the speed of the machine.

``batches`` reads text from Parquet as it lies there, without an object a document; ``engines`` hold the two libraries
that encode, ``newer`` the characters that only one of them knows; ``choosing`` takes one, after ``checking`` its ids;
``packing`` puts the end tokens in; ``pipeline`` does all that in threads and in order.
"""
