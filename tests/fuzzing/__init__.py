"""Fuzzing of every door through which a file or a request of a stranger enters; docs/fuzzing.md says how to run it.

case.py        one input: its files, and which of them is opened
seeds*.py      small right files of every format, made by code
known.py       files after public reports of faults in the libraries below us
mutate_*.py    how a file is damaged: any bytes, text headers, binary headers, pictures, DICOM, containers, JSON
targets.py     which door, seeds and mutators belong to a format
watch.py       what is wrong with an execution: traceback, memory, files read or left, code run
batch.py       a forked child that runs many inputs, and which input it died of
campaign.py    rounds over formats, kept on disk
report.py      the table
guided.py      the same doors under atheris, guided by coverage
control.py     doors that are faulty on purpose, which must be found
"""
