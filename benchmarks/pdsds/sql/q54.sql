-- How much those who bought maternity wear elsewhere spent near home in the next three months, in steps of 50.
WITH months AS (
    SELECT DISTINCT d_month_seq AS month FROM date_dim WHERE d_year = 1998 AND d_moy = 12
), mothers AS (
    SELECT DISTINCT c_customer_sk AS customer, c_current_addr_sk AS address
    FROM (
        SELECT cs_sold_date_sk AS day, cs_bill_customer_sk AS buyer, cs_item_sk AS item FROM catalog_sales
        UNION ALL
        SELECT ws_sold_date_sk AS day, ws_bill_customer_sk AS buyer, ws_item_sk AS item FROM web_sales
    ) AS sold
    JOIN item ON item = i_item_sk
    JOIN date_dim ON day = d_date_sk
    JOIN customer ON c_customer_sk = buyer
    WHERE i_category = 'Women' AND i_class = 'maternity' AND d_moy = 12 AND d_year = 1998
), revenues AS (
    SELECT customer, SUM(ss_ext_sales_price) AS revenue
    FROM mothers
    JOIN store_sales ON customer = ss_customer_sk
    JOIN customer_address ON address = ca_address_sk
    JOIN store ON ca_county = s_county AND ca_state = s_state
    JOIN date_dim ON ss_sold_date_sk = d_date_sk
    CROSS JOIN months
    WHERE d_month_seq BETWEEN month + 1 AND month + 3
    GROUP BY customer
), segments AS (
    SELECT CAST(ROUND(revenue / 50) AS INT) AS segment FROM revenues
)
SELECT segment, COUNT(*) AS customers, segment * 50 AS base
FROM segments
GROUP BY segment
ORDER BY segment, customers, base
LIMIT 100
