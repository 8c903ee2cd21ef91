"""What is kept: the validated MeasurementTable, the public data sets by name, request-rate traces and splits."""
