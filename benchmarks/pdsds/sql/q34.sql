-- Customers with very large baskets at the beginning or end of a month.
WITH baskets AS (
    SELECT ss_ticket_number AS ticket, ss_customer_sk AS customer, COUNT(*) AS cnt
    FROM store_sales
    JOIN date_dim ON ss_sold_date_sk = d_date_sk
    JOIN store ON ss_store_sk = s_store_sk
    JOIN household_demographics ON ss_hdemo_sk = hd_demo_sk
    WHERE (d_dom BETWEEN 1 AND 3 OR d_dom BETWEEN 25 AND 28) AND hd_buy_potential IN ('>10000', 'Unknown')
      AND hd_vehicle_count > 0
      AND CASE WHEN hd_vehicle_count > 0 THEN hd_dep_count * 1.0 / hd_vehicle_count END > 1.2
      AND d_year IN (1999, 2000, 2001) AND s_county = 'Williamson County'
    GROUP BY ss_ticket_number, ss_customer_sk
)
SELECT c_last_name, c_first_name, c_salutation, c_preferred_cust_flag, ticket, cnt
FROM baskets JOIN customer ON customer = c_customer_sk
WHERE cnt BETWEEN 15 AND 20
ORDER BY c_last_name NULLS FIRST, c_first_name NULLS FIRST, c_salutation NULLS FIRST,
         c_preferred_cust_flag DESC NULLS FIRST, ticket
