-- Months of 1999 in which a brand sold unusually much or little by a call center, with the months before and after.
WITH totals AS (
    SELECT i_category, i_brand, cc_name, d_year, d_moy, SUM(cs_sales_price) AS sales
    FROM catalog_sales
    JOIN item ON cs_item_sk = i_item_sk
    JOIN date_dim ON cs_sold_date_sk = d_date_sk
    JOIN call_center ON cc_call_center_sk = cs_call_center_sk
    WHERE d_year = 1999 OR (d_year = 1998 AND d_moy = 12) OR (d_year = 2000 AND d_moy = 1)
    GROUP BY i_category, i_brand, cc_name, d_year, d_moy
), monthly AS (
    SELECT *, AVG(sales) OVER (PARTITION BY i_category, i_brand, cc_name, d_year) AS average,
           RANK() OVER (PARTITION BY i_category, i_brand, cc_name ORDER BY d_year, d_moy) AS rn
    FROM totals
)
SELECT m.i_category, m.i_brand, m.cc_name, m.d_year, m.d_moy, m.average, m.sales, p.sales AS before, n.sales AS after
FROM monthly AS m
JOIN monthly AS p ON m.i_category = p.i_category AND m.i_brand = p.i_brand AND m.cc_name = p.cc_name AND m.rn = p.rn + 1
JOIN monthly AS n ON m.i_category = n.i_category AND m.i_brand = n.i_brand AND m.cc_name = n.cc_name AND m.rn = n.rn - 1
WHERE m.d_year = 1999 AND m.average > 0 AND ABS(m.sales - m.average) / m.average > 0.1
ORDER BY m.sales - m.average, m.i_category, m.i_brand, m.cc_name, m.d_moy
LIMIT 100
