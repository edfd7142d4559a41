-- Kinds of books of which fewer were sold, less returns, in 2002 than in 2001, all channels together.
WITH details AS (
    SELECT d_year, i_brand_id, i_class_id, i_category_id, i_manufact_id,
           cs_quantity - COALESCE(cr_return_quantity, 0) AS cnt, cs_ext_sales_price - COALESCE(cr_return_amount, 0.0) AS amt
    FROM catalog_sales
    JOIN item ON i_item_sk = cs_item_sk
    JOIN date_dim ON d_date_sk = cs_sold_date_sk
    LEFT JOIN catalog_returns ON cs_order_number = cr_order_number AND cs_item_sk = cr_item_sk
    WHERE i_category = 'Books'
    UNION
    SELECT d_year, i_brand_id, i_class_id, i_category_id, i_manufact_id,
           ss_quantity - COALESCE(sr_return_quantity, 0) AS cnt, ss_ext_sales_price - COALESCE(sr_return_amt, 0.0) AS amt
    FROM store_sales
    JOIN item ON i_item_sk = ss_item_sk
    JOIN date_dim ON d_date_sk = ss_sold_date_sk
    LEFT JOIN store_returns ON ss_ticket_number = sr_ticket_number AND ss_item_sk = sr_item_sk
    WHERE i_category = 'Books'
    UNION
    SELECT d_year, i_brand_id, i_class_id, i_category_id, i_manufact_id,
           ws_quantity - COALESCE(wr_return_quantity, 0) AS cnt, ws_ext_sales_price - COALESCE(wr_return_amt, 0.0) AS amt
    FROM web_sales
    JOIN item ON i_item_sk = ws_item_sk
    JOIN date_dim ON d_date_sk = ws_sold_date_sk
    LEFT JOIN web_returns ON ws_order_number = wr_order_number AND ws_item_sk = wr_item_sk
    WHERE i_category = 'Books'
), sales AS (
    SELECT d_year, i_brand_id, i_class_id, i_category_id, i_manufact_id, SUM(cnt) AS cnt, SUM(amt) AS amt
    FROM details
    GROUP BY d_year, i_brand_id, i_class_id, i_category_id, i_manufact_id
)
SELECT p.d_year AS prev_year, c.d_year AS year, c.i_brand_id, c.i_class_id, c.i_category_id, c.i_manufact_id,
       p.cnt AS prev_cnt, c.cnt AS curr_cnt, c.cnt - p.cnt AS cnt_diff, c.amt - p.amt AS amt_diff
FROM sales AS c
JOIN sales AS p ON c.i_brand_id = p.i_brand_id AND c.i_class_id = p.i_class_id AND c.i_category_id = p.i_category_id
               AND c.i_manufact_id = p.i_manufact_id
WHERE c.d_year = 2002 AND p.d_year = 2001 AND CAST(c.cnt AS DECIMAL(17, 2)) / CAST(p.cnt AS DECIMAL(17, 2)) < 0.9
ORDER BY cnt_diff, amt_diff, c.i_brand_id, c.i_class_id, c.i_manufact_id
LIMIT 100
