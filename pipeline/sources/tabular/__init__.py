"""Local data sets of Parquet and Arrow files, read in place."""

from pipeline.sources.card import config_folder, configs_of
from pipeline.sources.tabular.files import holds_tables, tabular_files
from pipeline.sources.tabular.opening import open_files, open_tabular
from pipeline.sources.tabular.reader import TabularReader
from pipeline.sources.tabular.tables import is_tabular

__all__ = [
    "TabularReader",
    "config_folder",
    "configs_of",
    "holds_tables",
    "is_tabular",
    "open_files",
    "open_tabular",
    "tabular_files",
]
