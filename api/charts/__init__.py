"""Charts: from the rows of a query to Vega-Lite.

Each module has one chart: its drawing and its `definition.ChartDefinition`. `catalog` lists them.
`drawing` has the parts that they share.
"""
