-- Spread of quantities sold, returned and bought again by catalog, for each item and state.
SELECT i_item_id, i_item_desc, s_state,
       COUNT(ss_quantity) AS sold_count, AVG(ss_quantity) AS sold_mean, STDDEV_SAMP(ss_quantity) AS sold_dev,
       STDDEV_SAMP(ss_quantity) / AVG(ss_quantity) AS sold_cov,
       COUNT(sr_return_quantity) AS returned_count, AVG(sr_return_quantity) AS returned_mean,
       STDDEV_SAMP(sr_return_quantity) AS returned_dev,
       STDDEV_SAMP(sr_return_quantity) / AVG(sr_return_quantity) AS returned_cov,
       COUNT(cs_quantity) AS again_count, AVG(cs_quantity) AS again_mean, STDDEV_SAMP(cs_quantity) AS again_dev,
       STDDEV_SAMP(cs_quantity) / AVG(cs_quantity) AS again_cov
FROM store_sales
JOIN store_returns ON ss_customer_sk = sr_customer_sk AND ss_item_sk = sr_item_sk AND ss_ticket_number = sr_ticket_number
JOIN catalog_sales ON sr_customer_sk = cs_bill_customer_sk AND sr_item_sk = cs_item_sk
JOIN date_dim AS d1 ON d1.d_date_sk = ss_sold_date_sk
JOIN date_dim AS d2 ON d2.d_date_sk = sr_returned_date_sk
JOIN date_dim AS d3 ON d3.d_date_sk = cs_sold_date_sk
JOIN store ON s_store_sk = ss_store_sk
JOIN item ON i_item_sk = ss_item_sk
WHERE d1.d_quarter_name = '2001Q1' AND d2.d_quarter_name IN ('2001Q1', '2001Q2', '2001Q3')
  AND d3.d_quarter_name IN ('2001Q1', '2001Q2', '2001Q3')
GROUP BY i_item_id, i_item_desc, s_state
ORDER BY i_item_id, i_item_desc, s_state
LIMIT 100
