"""What a net's own numbers are worth: `calibrate` measures, `models.files.calibration` keeps it beside the weights."""
