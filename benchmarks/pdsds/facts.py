"""Sales, returns and stock of the small tables.

Amounts follow from quantity and prices as in TPC-DS. Orders have several lines; some returns are of store sales, and part of
what is sold by catalog and on the web goes to customers who returned the same item to a store, which queries ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from benchmarks.pdsds.draw import Draw, money

__all__ = ["inventory", "returns_of", "sales"]

_ITEMS: Final = 60
_CUSTOMERS: Final = 120
_WANTED: Final = [*range(1, _ITEMS + 1), *(list(range(1, 9)) * 5)]
"""Some items are sold more often than others."""

_KEYS: Final = {"customer": _CUSTOMERS, "cdemo": 40, "hdemo": 28, "addr": 60}
_OF_AN_ORDER: Final = {
    "ss": ("customer", "cdemo", "hdemo", "addr"),
    "cs": ("bill_customer", "bill_cdemo", "bill_hdemo", "bill_addr", "ship_customer", "ship_addr"),
    "ws": ("bill_customer", "bill_addr", "ship_customer", "ship_hdemo", "ship_addr"),
}
_PLACES: Final = {
    "ss": {"store_sk": 5, "promo_sk": 8},
    "cs": {"call_center_sk": 3, "catalog_page_sk": 8, "ship_mode_sk": 4, "warehouse_sk": 3, "promo_sk": 8},
    "ws": {"web_page_sk": 4, "web_site_sk": 3, "ship_mode_sk": 4, "warehouse_sk": 3, "promo_sk": 8},
}
_NUMBER: Final = {"ss": "ticket_number", "cs": "order_number", "ws": "order_number"}
_RETURNS: Final = {"sr": "ss", "cr": "cs", "wr": "ws"}
_RETURNED_SHARE: Final = 4
"""One line of so many comes back."""


def sales(draw: Draw, prefix: str, days: Sequence[int], *, tickets: int, again: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return the lines of sales of one channel.

    Parameters
    ----------
    draw
        Gives the values.
    prefix
        Of the columns: ``ss``, ``cs`` or ``ws``.
    days
        The keys of the days on which something may be sold.
    tickets
        How many orders.
    again
        Returns of a store; every second order is one of their customers and items.
    """
    columns = ("item_sk", _NUMBER[prefix], *(f"{one}_sk" for one in _OF_AN_ORDER[prefix]))
    orders: dict[str, list[int | None]] = {name: [] for name in columns}
    back = [] if again is None else again.select("sr_customer_sk", "sr_item_sk").drop_nulls().rows()
    for ticket in range(1, tickets + 1):
        lines = 15 + draw.below(4) if ticket % 12 == 0 else 1 + draw.below(8)
        keys = {name: draw.key(1, _KEYS[name.rpartition("_")[2]])[0] for name in _OF_AN_ORDER[prefix]}
        items = draw.of(_WANTED, 3 * lines)
        if back and ticket % 2:
            customer, item = back[draw.below(len(back))]
            keys["bill_customer"], items[0] = customer, item
        for item in list(dict.fromkeys(items))[:lines]:
            for name, value in zip(columns, (item, ticket, *keys.values()), strict=True):
                orders[name].append(value)
    count = len(orders["item_sk"])
    day = dict(zip(range(1, tickets + 1), draw.of(_busy(days), tickets, nulls=0.02), strict=True))
    orders["sold_date_sk"] = [day[number or 0] for number in orders[_NUMBER[prefix]]]
    orders["sold_time_sk"] = draw.of([s for s in range(0, 86_400, 600) if 8 <= s // 3600 <= 20], count)
    places = {name: draw.key(count, size) for name, size in _PLACES[prefix].items()}
    late = (
        {}
        if prefix == "ss"
        else {"ship_date_sk": [d and min(d + 2 + 2 * draw.below(70), days[-1]) for d in orders["sold_date_sk"]]}
    )
    frame = pl.DataFrame({**orders, **places, **late, **_amounts(draw, count)})
    return frame.rename({name: f"{prefix}_{name}" for name in frame.columns})


def _busy(days: Sequence[int]) -> list[int]:
    """Return the days with more of those that the queries ask for: much is sold then."""
    first = days[0]
    months = (304, 30), (365 + 30, 60), (730, 130), (730 + 225, 60), (3 * 365 + 305, 60)
    busy = [first + start + day for start, length in months for day in range(length)]
    return [*days, *busy * 2, *(first + start for start in (730 + 35, 730 + 236, 3 * 365 + 315) for _ in range(150))]


def _amounts(draw: Draw, count: int) -> dict[str, pl.Series]:
    quantity = [1 + draw.below(100) for _ in range(count)]
    cost = [100 + draw.below(9_900) for _ in range(count)]
    price = [one * (100 + draw.below(100)) // 100 for one in cost]
    paid = [one * (1 + draw.below(100)) // 100 for one in price]
    coupon = [one * many // 2 if draw.below(5) == 0 else 0 for one, many in zip(paid, quantity, strict=True)]
    net = [one * many - off for one, many, off in zip(paid, quantity, coupon, strict=True)]
    total_cost = [one * many for one, many in zip(cost, quantity, strict=True)]
    total_list = [one * many for one, many in zip(price, quantity, strict=True)]
    total = [one * many for one, many in zip(paid, quantity, strict=True)]
    return {
        "quantity": pl.Series(quantity), "wholesale_cost": money(cost), "list_price": money(price),
        "sales_price": money(paid),
        "ext_discount_amt": money([a - b for a, b in zip(total_list, total, strict=True)]), "ext_sales_price": money(total),
        "ext_wholesale_cost": money(total_cost), "ext_list_price": money(total_list),
        "ext_tax": money([n // 20 for n in net]),
        "coupon_amt": money(coupon), "ext_ship_cost": money([n // 7 for n in total_list]), "net_paid": money(net),
        "net_paid_inc_tax": money([n + n // 20 for n in net]),
        "net_profit": money([a - b for a, b in zip(net, total_cost, strict=True)]),
    }  # fmt: skip


def returns_of(draw: Draw, prefix: str, sold: pl.DataFrame) -> pl.DataFrame:
    """Return what of the lines of a channel comes back.

    Parameters
    ----------
    draw
        Gives the values.
    prefix
        Of the columns: ``sr``, ``cr`` or ``wr``.
    sold
        The lines that were sold.
    """
    of = _RETURNS[prefix]
    lines = sold.filter(pl.Series([draw.below(_RETURNED_SHARE) == 0 for _ in range(sold.height)]))
    count, number = lines.height, _NUMBER[of]
    quantity = [1 + draw.below(one) for one in lines[f"{of}_quantity"]]
    amount = [int(100 * price) * many for price, many in zip(lines[f"{of}_sales_price"], quantity, strict=True)]
    customer = lines[f"{of}_customer_sk" if of == "ss" else f"{of}_bill_customer_sk"]
    days = lines[f"{of}_sold_date_sk"]
    shares = [one * (1 + draw.below(3)) // 4 for one in amount]
    halves = [(a - b) // 2 for a, b in zip(amount, shares, strict=True)]
    frame = pl.DataFrame({
        "returned_date_sk": [day and day + 1 + draw.below(130) for day in days], "item_sk": lines[f"{of}_item_sk"],
        number: lines[f"{of}_{number}"], "return_quantity": quantity,
        "return_amount" if prefix == "cr" else "return_amt": money(amount), "reason_sk": draw.key(count, 4),
        "return_amt_inc_tax": money([one + one // 20 for one in amount]), "fee": draw.cents(count, 50, 10_000),
        "refunded_cash": money(shares), "reversed_charge": money(halves), "store_credit": money(halves),
        "net_loss": draw.cents(count, 100, 50_000),
    })  # fmt: skip
    match prefix:
        case "sr":
            others = {"customer_sk": customer, "cdemo_sk": lines["ss_cdemo_sk"], "store_sk": lines["ss_store_sk"]}
        case "cr":
            kept = ("call_center_sk", "catalog_page_sk")
            others = {
                "returning_customer_sk": customer, "returning_addr_sk": lines["cs_bill_addr_sk"],
                **{name: lines[f"cs_{name}"] for name in kept},
            }  # fmt: skip
        case _:
            demographics = pl.Series(draw.key(count, 40))
            others = {
                "returning_customer_sk": customer, "returning_addr_sk": lines["ws_bill_addr_sk"],
                "refunded_addr_sk": lines["ws_bill_addr_sk"], "web_page_sk": lines["ws_web_page_sk"],
                "refunded_cdemo_sk": demographics, "returning_cdemo_sk": demographics,
            }  # fmt: skip
    frame = frame.with_columns(**others)
    return frame.rename({name: f"{prefix}_{name}" for name in frame.columns})


def inventory(draw: Draw, days: Sequence[int]) -> pl.DataFrame:
    """Return the stock of some items in each warehouse, every week."""
    weeks = days[::7]
    rows = [(day, item, warehouse) for day in weeks for item in range(1, _ITEMS + 1, 6) for warehouse in (1, 2, 3)]
    # Most is near the average, and a part far from it.
    quantity = [100 + draw.below(800) if draw.below(6) == 0 else draw.below(60) for _ in rows]
    return pl.DataFrame({
        "inv_date_sk": [row[0] for row in rows], "inv_item_sk": [row[1] for row in rows],
        "inv_warehouse_sk": [row[2] for row in rows],
        "inv_quantity_on_hand": [None if draw.below(25) == 0 else one for one in quantity],
    })  # fmt: skip
