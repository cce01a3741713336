"""How charts are drawn: Vega-Lite, the house style, axes, legends, and file formats."""
