-- ${service} in ${environment}: what goose and greylag record, which its owner alone may write: default privileges give the service every table. Tables
-- that greylag makes are so from the beginning; this is for those that exist already, and may be run again at any time.
SELECT format('REVOKE %s ON %s %I.%I FROM %s CASCADE', string_agg(DISTINCT a.privilege_type, ', '), CASE o.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
    n.nspname, o.relname, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
  FROM pg_class AS t
  JOIN pg_class AS o ON o.oid = t.oid OR o.relkind = 'S' AND EXISTS (SELECT FROM pg_depend AS d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = o.oid AND d.refobjid = t.oid AND d.deptype IN ('a', 'i'))
  JOIN pg_namespace AS n ON n.oid = o.relnamespace,
  LATERAL (SELECT * FROM aclexplode(o.relacl) UNION ALL SELECT e.* FROM pg_attribute AS c, aclexplode(c.attacl) AS e WHERE c.attrelid = o.oid) AS a
  WHERE t.relkind IN ('r', 'p') AND t.relname IN ('goose_db_version', 'greylag_migration', 'greylag_journal', 'greylag_fact',
    'greylag_approval')
    AND a.grantee <> o.relowner AND a.privilege_type <> 'SELECT'
  GROUP BY o.oid, o.relkind, n.nspname, o.relname, a.grantee \gexec
