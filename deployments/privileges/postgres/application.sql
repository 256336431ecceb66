-- ${service} in ${environment}: the service itself. It reads and writes rows, and can change no table: a stolen login of the service drops nothing.
CREATE ROLE "${application}" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
GRANT CONNECT ON DATABASE "${database}" TO "${application}";
GRANT USAGE ON SCHEMA public TO "${application}";
ALTER DEFAULT PRIVILEGES FOR ROLE "${owner}" IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "${application}";
ALTER DEFAULT PRIVILEGES FOR ROLE "${owner}" IN SCHEMA public GRANT USAGE ON SEQUENCES TO "${application}";
