-- Monday baskets of large or car-rich households in stores of a middling size.
SELECT c_last_name, c_first_name, SUBSTRING(s_city, 1, 30) AS city, ticket, coupons, profit
FROM (
    SELECT ss_ticket_number AS ticket, ss_customer_sk AS customer, s_city, SUM(ss_coupon_amt) AS coupons,
           SUM(ss_net_profit) AS profit
    FROM store_sales
    JOIN date_dim ON ss_sold_date_sk = d_date_sk
    JOIN store ON ss_store_sk = s_store_sk
    JOIN household_demographics ON ss_hdemo_sk = hd_demo_sk
    WHERE (hd_dep_count = 6 OR hd_vehicle_count > 2) AND d_dow = 1 AND d_year IN (1999, 2000, 2001)
      AND s_number_employees BETWEEN 200 AND 295
    GROUP BY ss_ticket_number, ss_customer_sk, ss_addr_sk, s_city
) AS baskets
JOIN customer ON customer = c_customer_sk
ORDER BY c_last_name NULLS FIRST, c_first_name NULLS FIRST, city NULLS FIRST, profit, ticket
LIMIT 100
