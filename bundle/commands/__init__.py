"""The command `monai-sam`: a thin layer over the bundle, a module for each command.

Modules here import nothing heavy at the top, so that `--help` answers at once.
"""
