"""What a net's own numbers are worth: `calibrate` measures, `models.calibration` keeps it beside the weights."""
