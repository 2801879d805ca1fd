"""The parts of the app; import them as ``monailabel_app.lib``: MONAI Label unloads any module named ``lib``."""
