"""Places: the knobs of a configuration that name files and folders."""

DATA_FILES = {  # what lies there is in the fingerprint of the data
    "data.train_files",
    "data.valid_files",
    "data.test_files",
    "data.folder",
    "data.tfds_data_dir",
}
STARTS = {"tokenizer.file", "init_from"}  # read before the first step alone
LATER = DATA_FILES | {"eval.judge"}  # read whenever a run goes on
PLACES = LATER | STARTS
