"""Ad-hoc studies: a question asked on the command line, and the file it becomes."""
