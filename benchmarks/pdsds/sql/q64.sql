-- Items sold and returned in stores in 1999 and no oftener in 2000, that mostly come back by catalog too.
WITH kept AS (
    SELECT cs_item_sk AS kept_item
    FROM catalog_sales JOIN catalog_returns ON cs_item_sk = cr_item_sk AND cs_order_number = cr_order_number
    GROUP BY cs_item_sk
    HAVING SUM(cs_ext_list_price) > 2 * SUM(cr_refunded_cash + cr_reversed_charge + cr_store_credit)
), crossed AS (
    SELECT i_product_name AS product, i_item_sk AS item, s_store_name AS store, s_zip AS zip,
           ad1.ca_street_number AS b_number, ad1.ca_street_name AS b_street, ad1.ca_city AS b_city, ad1.ca_zip AS b_zip,
           ad2.ca_street_number AS c_number, ad2.ca_street_name AS c_street, ad2.ca_city AS c_city, ad2.ca_zip AS c_zip,
           d1.d_year AS year, d2.d_year AS first_sale, d3.d_year AS first_ship, COUNT(*) AS cnt,
           SUM(ss_wholesale_cost) AS cost, SUM(ss_list_price) AS price, SUM(ss_coupon_amt) AS coupon
    FROM store_sales
    JOIN store_returns ON ss_item_sk = sr_item_sk AND ss_ticket_number = sr_ticket_number
    JOIN kept ON ss_item_sk = kept_item
    JOIN item ON ss_item_sk = i_item_sk
    JOIN store ON ss_store_sk = s_store_sk
    JOIN promotion ON ss_promo_sk = p_promo_sk
    JOIN customer ON ss_customer_sk = c_customer_sk
    JOIN date_dim AS d1 ON ss_sold_date_sk = d1.d_date_sk
    JOIN date_dim AS d2 ON c_first_sales_date_sk = d2.d_date_sk
    JOIN date_dim AS d3 ON c_first_shipto_date_sk = d3.d_date_sk
    JOIN customer_demographics AS cd1 ON ss_cdemo_sk = cd1.cd_demo_sk
    JOIN customer_demographics AS cd2 ON c_current_cdemo_sk = cd2.cd_demo_sk
    JOIN household_demographics AS hd1 ON ss_hdemo_sk = hd1.hd_demo_sk
    JOIN household_demographics AS hd2 ON c_current_hdemo_sk = hd2.hd_demo_sk
    JOIN income_band AS ib1 ON hd1.hd_income_band_sk = ib1.ib_income_band_sk
    JOIN income_band AS ib2 ON hd2.hd_income_band_sk = ib2.ib_income_band_sk
    JOIN customer_address AS ad1 ON ss_addr_sk = ad1.ca_address_sk
    JOIN customer_address AS ad2 ON c_current_addr_sk = ad2.ca_address_sk
    WHERE cd1.cd_marital_status <> cd2.cd_marital_status
      AND i_color IN ('purple', 'burlywood', 'indian', 'spring', 'floral', 'medium')
      AND i_current_price BETWEEN 64 AND 74 AND i_current_price BETWEEN 65 AND 79
    GROUP BY i_product_name, i_item_sk, s_store_name, s_zip, ad1.ca_street_number, ad1.ca_street_name, ad1.ca_city, ad1.ca_zip,
             ad2.ca_street_number, ad2.ca_street_name, ad2.ca_city, ad2.ca_zip, d1.d_year, d2.d_year, d3.d_year
)
SELECT x.product, x.store, x.zip, x.b_number, x.b_street, x.b_city, x.b_zip, x.c_number, x.c_street, x.c_city, x.c_zip,
       x.year, x.cnt, x.cost, x.price, x.coupon, y.cost AS cost2, y.price AS price2, y.coupon AS coupon2, y.year AS year2,
       y.cnt AS cnt2
FROM crossed AS x JOIN crossed AS y ON x.item = y.item AND x.store = y.store AND x.zip = y.zip
WHERE x.year = 1999 AND y.year = 2000 AND y.cnt <= x.cnt
ORDER BY x.product, x.store, y.cnt, x.cost, y.cost
