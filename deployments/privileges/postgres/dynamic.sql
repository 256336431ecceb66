-- ${service} in ${environment}: who migrates, where Vault makes a login for each run. Each is a member of "${owner}" and becomes it; what it creates
-- stays when it is dropped. Vault's own role and its statements are in docs/concepts/credentials.md.
CREATE ROLE "${owner}" NOLOGIN;
REVOKE ALL ON DATABASE "${database}" FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE "${database}" TO "${owner}";
GRANT USAGE ON SCHEMA public TO "${owner}";
GRANT CREATE ON SCHEMA public TO "${owner}";
