-- States with ten or more sales, in January 2001, of items priced over 1.2 times the average of their category.
SELECT ca_state AS state, COUNT(*) AS cnt
FROM store_sales
JOIN date_dim ON ss_sold_date_sk = d_date_sk
JOIN customer ON ss_customer_sk = c_customer_sk
JOIN customer_address ON c_current_addr_sk = ca_address_sk
JOIN item ON ss_item_sk = i_item_sk
WHERE d_month_seq = (SELECT DISTINCT m.d_month_seq FROM date_dim AS m WHERE m.d_year = 2001 AND m.d_moy = 1)
  AND i_current_price > 1.2 * (SELECT AVG(j.i_current_price) FROM item AS j WHERE j.i_category = item.i_category)
GROUP BY ca_state
HAVING COUNT(*) >= 10
ORDER BY cnt, state NULLS FIRST
LIMIT 100
