"""The CNI specification, held against the installed executable: every check of the list that it names."""
