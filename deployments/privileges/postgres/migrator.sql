-- ${service} in ${environment}: who migrates. For psql, as a superuser or the database's administrator; set the password afterwards with \password.
-- What migrations create belongs to "${owner}", which nobody can log in as: the login that created it can be replaced, or live for one run only.
CREATE ROLE "${owner}" NOLOGIN;
CREATE ROLE "${migrator}" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOINHERIT CONNECTION LIMIT 5;
REVOKE ALL ON DATABASE "${database}" FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT "${owner}" TO "${migrator}";
GRANT CONNECT ON DATABASE "${database}" TO "${migrator}";
ALTER ROLE "${migrator}" IN DATABASE "${database}" SET role = '${owner}';
GRANT USAGE ON SCHEMA public TO "${owner}";
GRANT CREATE ON SCHEMA public TO "${owner}";
