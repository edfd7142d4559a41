-- Months of 1999 in which a brand sold unusually much or little in a store, with the months before and after.
WITH monthly AS (
    SELECT i_category, i_brand, s_store_name, s_company_name, d_year, d_moy, SUM(ss_sales_price) AS sales,
           AVG(SUM(ss_sales_price)) OVER (PARTITION BY i_category, i_brand, s_store_name, s_company_name, d_year) AS average,
           RANK() OVER (PARTITION BY i_category, i_brand, s_store_name, s_company_name ORDER BY d_year, d_moy) AS rn
    FROM store_sales, item, date_dim, store
    WHERE ss_item_sk = i_item_sk AND ss_sold_date_sk = d_date_sk AND ss_store_sk = s_store_sk
      AND (d_year = 1999 OR (d_year = 1998 AND d_moy = 12) OR (d_year = 2000 AND d_moy = 1))
    GROUP BY i_category, i_brand, s_store_name, s_company_name, d_year, d_moy
)
SELECT m.i_category, m.i_brand, m.s_store_name, m.s_company_name, m.d_year, m.d_moy, m.average, m.sales,
       p.sales AS before, n.sales AS after
FROM monthly AS m
JOIN monthly AS p ON m.i_category = p.i_category AND m.i_brand = p.i_brand AND m.s_store_name = p.s_store_name
                 AND m.s_company_name = p.s_company_name AND m.rn = p.rn + 1
JOIN monthly AS n ON m.i_category = n.i_category AND m.i_brand = n.i_brand AND m.s_store_name = n.s_store_name
                 AND m.s_company_name = n.s_company_name AND m.rn = n.rn - 1
WHERE m.d_year = 1999 AND m.average > 0 AND ABS(m.sales - m.average) / m.average > 0.1
ORDER BY m.sales - m.average, m.i_category, m.i_brand, m.s_store_name, m.s_company_name, m.d_moy
LIMIT 100
