-- Discounts by catalog on items of one manufacturer that exceed 1.3 times the item's average of those months.
SELECT SUM(cs_ext_discount_amt) AS excess
FROM catalog_sales JOIN item ON i_item_sk = cs_item_sk JOIN date_dim ON d_date_sk = cs_sold_date_sk
WHERE i_manufact_id = 977 AND d_date BETWEEN DATE '2000-01-27' AND DATE '2000-04-26'
  AND cs_ext_discount_amt > (
      SELECT 1.3 * AVG(peer.cs_ext_discount_amt)
      FROM catalog_sales AS peer JOIN date_dim AS d2 ON d2.d_date_sk = peer.cs_sold_date_sk
      WHERE peer.cs_item_sk = item.i_item_sk AND d2.d_date BETWEEN DATE '2000-01-27' AND DATE '2000-04-26')
