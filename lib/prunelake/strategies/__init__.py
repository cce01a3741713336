"""Removal orders: which layers or experts a sweep removes first.

`removal_order.removal_order` is the entry. `importance` measures each layer once, `greedy` measures
again after each removal (by loss, divergence or `balanced` damage), and `expert_order` orders
experts. `strategy_spec.STRATEGIES` lists the names.
"""
