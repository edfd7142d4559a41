"""Small tables of the schema of TPC-DS for tests: seeded, made in a second, so that most queries give rows.

They hold the columns that the queries read, with dsdgen's types, keys that refer to rows that there are, and nulls among
foreign keys. Values are drawn from short lists that hold the queries' parameters, so that conditions that leave nothing
of a small sample of dsdgen's data leave some rows. Next: :mod:`benchmarks.pdsds.facts` for sales and returns.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.pdsds.draw import Draw
from benchmarks.pdsds.facts import inventory, returns_of, sales

__all__ = ["generate"]

_SEED: Final = 8
_FIRST_DAY: Final = dt.date(1998, 1, 1)
_DAYS: Final = 5 * 365 + 1
_FIRST_DAY_KEY: Final = 2_450_815
"""Days are numbered from 1 January 4713 BC, as in TPC-DS."""

_ROWS_A_GROUP: Final = 200
_STATES: Final = ["TN", "GA", "GA", "KY", "OH", "TX", "VA", "IL", "NM", "CA", "IN", "MS"]
_COUNTIES: Final = ["Williamson County", "Rush County", "Dona Ana County", "Orange County"]
_CITIES: Final = ["Fairview", "Midway", "Edgewood", "Oakland"]
_ZIPS: Final = ["24128", "76232", "85669", "86197", "35709", "31904"]
_EDUCATION: Final = ["College", "2 yr Degree", "4 yr Degree", "Advanced Degree", "Unknown"]
_CLASSES: Final = {
    "Books": ["computers", "reference", "self-help"], "Music": ["classical", "pop"], "Home": ["bedding", "glassware"],
    "Sports": ["football", "golf"], "Women": ["maternity", "dresses", "fragrances"], "Men": ["shirts", "pants"],
    "Electronics": ["portable", "stereo", "personal"], "Jewelry": ["birdal", "rings"],
}  # fmt: skip
_BRANDS: Final = ["scholaramalgamalg #14", "importoamalg #1", "amalgimporto #1", "exportiunivamalg #9"]


def generate(folder: Path) -> None:
    """Write all tables as ``<folder>/<table>.parquet``, the same ones each time."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in _tables(Draw(_SEED)).items():
        frame.write_parquet(folder / f"{name}.parquet", row_group_size=_ROWS_A_GROUP)


def _tables(draw: Draw) -> dict[str, pl.DataFrame]:
    tables = {
        "date_dim": _dates(), "time_dim": _times(), "item": _items(draw, 60), "customer_address": _addresses(draw, 60),
        "customer_demographics": _demographics(), "household_demographics": _households(), "store": _stores(draw),
        "income_band": pl.DataFrame({
            "ib_income_band_sk": range(1, 11), "ib_lower_bound": [n * 10_000 + 1 for n in range(10)],
            "ib_upper_bound": [(n + 1) * 10_000 for n in range(10)],
        }),
        "promotion": pl.DataFrame({
            "p_promo_sk": range(1, 9), "p_channel_dmail": draw.of("YN", 8), "p_channel_email": draw.of("YN", 8),
            "p_channel_tv": draw.of("NNY", 8), "p_channel_event": draw.of("YN", 8),
        }),
        "reason": pl.DataFrame({"r_reason_sk": range(1, 5), "r_reason_desc": ["reason 28", "too big", "broken", "lost"]}),
        "ship_mode": pl.DataFrame({
            "sm_ship_mode_sk": range(1, 5), "sm_type": ["EXPRESS", "REGULAR", "EXPRESS", "LIBRARY"],
            "sm_carrier": ["DHL", "BARIAN", "UPS", "FEDEX"],
        }),
        "warehouse": pl.DataFrame({
            "w_warehouse_sk": range(1, 4), "w_warehouse_name": ["Bad cards must make", "Conventional childr", None],
            "w_warehouse_sq_ft": [977_787, 138_504, 294_242], "w_city": draw.of(_CITIES, 3),
            "w_county": draw.of(_COUNTIES, 3), "w_state": draw.of(_STATES, 3), "w_country": ["United States"] * 3,
        }),
        "call_center": pl.DataFrame({
            "cc_call_center_sk": range(1, 4), "cc_call_center_id": ["CALL1", "CALL2", "CALL3"],
            "cc_name": ["NY Metro", "Mid Atlantic", "North"], "cc_manager": ["Bob", "Felipe", "Mark"],
            "cc_county": ["Williamson County"] * 3,
        }),
        "catalog_page": pl.DataFrame({
            "cp_catalog_page_sk": range(1, 9), "cp_catalog_page_id": [f"PAGE{n}" for n in range(1, 9)],
        }),
        "web_page": pl.DataFrame({"wp_web_page_sk": range(1, 5), "wp_char_count": [5_100, 5_020, 3_000, 5_199]}),
        "web_site": pl.DataFrame({
            "web_site_sk": range(1, 4), "web_site_id": ["SITE1", "SITE2", "SITE3"],
            "web_name": ["site_0", "site_1", "site_0"], "web_company_name": ["pri", "pri", "able"],
        }),
    }  # fmt: skip
    customers = _customers(draw, 120)
    days = tables["date_dim"]["d_date_sk"].to_list()
    store = sales(draw, "ss", days, tickets=420)
    back = returns_of(draw, "sr", store)
    catalog = sales(draw, "cs", days, tickets=320, again=back)
    web = sales(draw, "ws", days, tickets=280, again=back)
    return tables | {
        "customer": customers, "store_sales": store, "store_returns": back, "catalog_sales": catalog, "web_sales": web,
        "catalog_returns": returns_of(draw, "cr", catalog), "web_returns": returns_of(draw, "wr", web),
        "inventory": inventory(draw, days),
    }  # fmt: skip


def _dates() -> pl.DataFrame:
    days = [_FIRST_DAY + dt.timedelta(days=number) for number in range(_DAYS)]
    return pl.DataFrame({
        "d_date_sk": range(_FIRST_DAY_KEY, _FIRST_DAY_KEY + _DAYS), "d_date": days,
        "d_month_seq": [(day.year - 1900) * 12 + day.month - 1 for day in days],
        "d_week_seq": [day.toordinal() // 7 - 99_063 for day in days], "d_year": [day.year for day in days],
        "d_dow": [day.isoweekday() % 7 for day in days], "d_moy": [day.month for day in days],
        "d_dom": [day.day for day in days], "d_qoy": [(day.month + 2) // 3 for day in days],
        "d_day_name": [day.strftime("%A") for day in days],
        "d_quarter_name": [f"{day.year}Q{(day.month + 2) // 3}" for day in days],
    })  # fmt: skip


def _times() -> pl.DataFrame:
    seconds = range(0, 86_400, 600)
    meals = {7: "breakfast", 8: "breakfast", 12: "lunch", 18: "dinner", 19: "dinner", 20: "dinner"}
    return pl.DataFrame({
        "t_time_sk": seconds, "t_time": seconds, "t_hour": [second // 3600 for second in seconds],
        "t_minute": [second // 60 % 60 for second in seconds], "t_meal_time": [meals.get(s // 3600) for s in seconds],
    }, schema_overrides={"t_meal_time": pl.String})  # fmt: skip


def _items(draw: Draw, count: int) -> pl.DataFrame:
    categories = draw.of(list(_CLASSES), count, nulls=0.03)
    manufacturers = draw.of([128, 350, 677, 677, 740, 977, 129], count)
    names = sorted(_CLASSES)
    return pl.DataFrame({
        "i_item_sk": range(1, count + 1), "i_item_id": [f"ITEM{n // 2:04}" for n in range(count)],
        "i_item_desc": [f"Things of the kind {n % 17}, described at length" for n in range(count)],
        "i_current_price": draw.cents(count, 99, 149, 7_000, 7_600, 5_500, 6_600),
        "i_wholesale_cost": draw.cents(count, 50, 9_000),
        "i_brand_id": [n % 7 for n in range(count)], "i_brand": draw.of(_BRANDS, count),
        "i_class_id": [n % 5 for n in range(count)],
        "i_class": [None if one is None else draw.of(_CLASSES[one], 1)[0] for one in categories],
        "i_category_id": [None if one is None else names.index(one) for one in categories], "i_category": categories,
        "i_manufact_id": manufacturers, "i_manufact": [f"manufact {one}" for one in manufacturers],
        "i_size": draw.of(["medium", "extra large", "small", "petite"], count),
        "i_color": draw.of(["powder", "khaki", "slate", "purple", "peach", "burlywood"], count),
        "i_units": draw.of(["Ounce", "Oz", "Dozen", "Pallet"], count), "i_manager_id": draw.of([1, 8, 28], count),
        "i_product_name": [f"product{n}" for n in range(count)],
    })  # fmt: skip


def _addresses(draw: Draw, count: int) -> pl.DataFrame:
    return pl.DataFrame({
        "ca_address_sk": range(1, count + 1), "ca_street_number": [str(n) for n in range(count)],
        "ca_street_name": draw.of(["Main", "Oak", "Park"], count), "ca_street_type": draw.of(["Street", "Ave"], count),
        "ca_suite_number": [f"Suite {n}" for n in range(count)], "ca_city": draw.of(_CITIES, count, nulls=0.03),
        "ca_county": draw.of(_COUNTIES, count), "ca_state": draw.of(_STATES, count, nulls=0.03),
        "ca_zip": draw.of(_ZIPS, count, nulls=0.03), "ca_country": ["United States"] * count,
        "ca_gmt_offset": pl.Series(draw.of([-5, -5, -7], count)).cast(pl.Decimal(5, 2)),
        "ca_location_type": draw.of(["condo", "apartment"], count),
    })  # fmt: skip


def _demographics() -> pl.DataFrame:
    kinds = [(gender, status, degree) for gender in "MF" for status in "MSDW" for degree in _EDUCATION]
    return pl.DataFrame({
        "cd_demo_sk": range(1, len(kinds) + 1), "cd_gender": [one[0] for one in kinds],
        "cd_marital_status": [one[1] for one in kinds], "cd_education_status": [one[2] for one in kinds],
        "cd_purchase_estimate": [500 * (n % 9) for n in range(len(kinds))],
        "cd_credit_rating": [("Good", "Low Risk")[n % 2] for n in range(len(kinds))],
        "cd_dep_count": [n % 4 for n in range(len(kinds))], "cd_dep_employed_count": [n % 3 for n in range(len(kinds))],
        "cd_dep_college_count": [n % 2 for n in range(len(kinds))],
    })  # fmt: skip


def _households() -> pl.DataFrame:
    kinds = [(cars, people) for cars in (0, 1, 2, 3) for people in (0, 1, 2, 3, 4, 6, 7)]
    return pl.DataFrame({
        "hd_demo_sk": range(1, len(kinds) + 1), "hd_income_band_sk": [n % 10 + 1 for n in range(len(kinds))],
        "hd_buy_potential": [(">10000", "Unknown", "501-1000")[n % 3] for n in range(len(kinds))],
        "hd_dep_count": [one[1] for one in kinds], "hd_vehicle_count": [one[0] for one in kinds],
    })  # fmt: skip


def _stores(draw: Draw) -> pl.DataFrame:
    count = 5
    return pl.DataFrame({
        "s_store_sk": range(1, count + 1), "s_store_id": [f"STORE{n // 2}" for n in range(count)],
        "s_store_name": ["ese", "ought", "ese", "able", None],
        "s_number_employees": [210, 260, 290, 240, 300], "s_market_id": [8, 8, 2, 8, 4],
        "s_company_id": [1] * count, "s_company_name": ["Unknown"] * count,
        "s_street_number": [str(n) for n in range(count)], "s_street_name": draw.of(["Main", "Oak"], count),
        "s_street_type": ["Street"] * count, "s_suite_number": ["Suite 1"] * count,
        "s_city": ["Fairview", "Midway", "Fairview", "Midway", "Oakland"], "s_county": draw.of(_COUNTIES[:2], count),
        "s_state": ["TN", "TN", "TN", "GA", "TN"], "s_zip": draw.of(_ZIPS, count),
        "s_gmt_offset": pl.Series([-5] * count).cast(pl.Decimal(5, 2)),
    })  # fmt: skip


def _customers(draw: Draw, count: int) -> pl.DataFrame:
    last_days = range(_FIRST_DAY_KEY, _FIRST_DAY_KEY + _DAYS)
    return pl.DataFrame({
        "c_customer_sk": range(1, count + 1), "c_customer_id": [f"CUSTOMER{n:04}" for n in range(count)],
        "c_current_cdemo_sk": draw.key(count, 40), "c_current_hdemo_sk": draw.key(count, 28),
        "c_current_addr_sk": draw.key(count, 60), "c_first_shipto_date_sk": draw.of(last_days, count),
        "c_first_sales_date_sk": draw.of(last_days, count), "c_salutation": draw.of(["Mr.", "Dr."], count, nulls=0.05),
        "c_first_name": draw.of(["Ann", "Bo", "Cy", "Di"], count, nulls=0.05),
        "c_last_name": draw.of(["Ash", "Birch", "Cedar", "Elm", "Fir"], count, nulls=0.05),
        "c_preferred_cust_flag": draw.of("YYN", count, nulls=0.05), "c_birth_day": draw.of(range(1, 29), count),
        "c_birth_month": draw.of(range(1, 13), count), "c_birth_year": draw.of(range(1930, 1990), count, nulls=0.05),
        "c_birth_country": draw.of(["UNITED STATES", "FIJI", "PERU"], count), "c_login": [None] * count,
        "c_email_address": [f"{n}@example.com" for n in range(count)], "c_last_review_date_sk": draw.of(last_days, count),
    }, schema_overrides={"c_login": pl.String})  # fmt: skip
