-- Sales of a month of items in some colours, in one time zone, all channels together.
WITH coloured AS (
    SELECT i_item_id FROM item WHERE i_color IN ('slate', 'blanched', 'burnished')
), sold AS (
    SELECT ss_item_sk AS item, ss_sold_date_sk AS day, ss_addr_sk AS address, ss_ext_sales_price AS price FROM store_sales
    UNION ALL
    SELECT cs_item_sk AS item, cs_sold_date_sk AS day, cs_bill_addr_sk AS address, cs_ext_sales_price AS price
    FROM catalog_sales
    UNION ALL
    SELECT ws_item_sk AS item, ws_sold_date_sk AS day, ws_bill_addr_sk AS address, ws_ext_sales_price AS price FROM web_sales
)
SELECT i_item_id, SUM(price) AS total
FROM sold
JOIN date_dim ON day = d_date_sk
JOIN customer_address ON address = ca_address_sk
JOIN item ON item = i_item_sk
WHERE i_item_id IN (SELECT i_item_id FROM coloured) AND d_year = 2001 AND d_moy = 2 AND ca_gmt_offset = -5
GROUP BY i_item_id
ORDER BY total NULLS FIRST, i_item_id
LIMIT 100
