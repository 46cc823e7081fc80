"""Rows of tables and their like as documents: one schema of chats and preference pairs, whatever a data set calls it.

For sources whose input comes in rows (JSON lines, CSV, Parquet, a hub's data sets). :mod:`lmgraft.rows.kinds` is light:
the settings of such a source derive from ``RowsConfig``. :mod:`lmgraft.rows.reader` turns rows into documents.
"""
