-- Weekend baskets of customers who bought in another city than they live in.
WITH baskets AS (
    SELECT ss_ticket_number AS ticket, ss_customer_sk AS customer, ss_addr_sk AS address, ca_city AS bought_city,
           SUM(ss_coupon_amt) AS coupons, SUM(ss_net_profit) AS profit
    FROM store_sales
    JOIN date_dim ON ss_sold_date_sk = d_date_sk
    JOIN store ON ss_store_sk = s_store_sk
    JOIN household_demographics ON ss_hdemo_sk = hd_demo_sk
    JOIN customer_address ON ss_addr_sk = ca_address_sk
    WHERE (hd_dep_count = 4 OR hd_vehicle_count = 3) AND d_dow IN (6, 0) AND d_year IN (1999, 2000, 2001)
      AND s_city IN ('Fairview', 'Midway')
    GROUP BY ss_ticket_number, ss_customer_sk, ss_addr_sk, ca_city
)
SELECT c_last_name, c_first_name, ca_city, bought_city, ticket, coupons, profit
FROM baskets
JOIN customer ON customer = c_customer_sk
JOIN customer_address ON c_current_addr_sk = ca_address_sk
WHERE ca_city <> bought_city
ORDER BY c_last_name NULLS FIRST, c_first_name NULLS FIRST, ca_city NULLS FIRST, bought_city NULLS FIRST, ticket,
         coupons NULLS FIRST, profit NULLS FIRST
LIMIT 100
