-- Sales of a month of items of music, in one time zone, all channels together.
WITH music AS (
    SELECT i_item_id AS music_id FROM item WHERE i_category = 'Music'
), ss AS (
    SELECT i_item_id, SUM(ss_ext_sales_price) AS total
    FROM store_sales
    JOIN item ON ss_item_sk = i_item_sk
    JOIN date_dim ON ss_sold_date_sk = d_date_sk
    JOIN customer_address ON ss_addr_sk = ca_address_sk
    WHERE i_item_id IN (SELECT music_id FROM music) AND d_year = 1998 AND d_moy = 9 AND ca_gmt_offset = -5
    GROUP BY i_item_id
), cs AS (
    SELECT i_item_id, SUM(cs_ext_sales_price) AS total
    FROM catalog_sales
    JOIN item ON cs_item_sk = i_item_sk
    JOIN date_dim ON cs_sold_date_sk = d_date_sk
    JOIN customer_address ON cs_bill_addr_sk = ca_address_sk
    WHERE i_item_id IN (SELECT music_id FROM music) AND d_year = 1998 AND d_moy = 9 AND ca_gmt_offset = -5
    GROUP BY i_item_id
), ws AS (
    SELECT i_item_id, SUM(ws_ext_sales_price) AS total
    FROM web_sales
    JOIN item ON ws_item_sk = i_item_sk
    JOIN date_dim ON ws_sold_date_sk = d_date_sk
    JOIN customer_address ON ws_bill_addr_sk = ca_address_sk
    WHERE i_item_id IN (SELECT music_id FROM music) AND d_year = 1998 AND d_moy = 9 AND ca_gmt_offset = -5
    GROUP BY i_item_id
)
SELECT i_item_id, SUM(total) AS total
FROM (SELECT * FROM ss UNION ALL SELECT * FROM cs UNION ALL SELECT * FROM ws) AS every
GROUP BY i_item_id
ORDER BY i_item_id, total
LIMIT 100
