-- ${service} in ${environment}: who migrates. The user exists already; set its password where users are made.
GRANT SELECT ON `${database}`.* TO `${migrator}`;
GRANT INSERT ON `${database}`.* TO `${migrator}`;
GRANT CREATE TABLE ON `${database}`.* TO `${migrator}`;
GRANT ALTER TABLE ON `${database}`.* TO `${migrator}`;
GRANT DROP TABLE ON `${database}`.* TO `${migrator}`;
GRANT TABLE ENGINE ON * TO `${migrator}`;
-- After a crash: does the broken run's statement, or its mutation, still run?
GRANT SELECT ON system.processes TO `${migrator}`;
GRANT SELECT ON system.mutations TO `${migrator}`;
-- Where the server keeps a query log, it tells of an INSERT that was broken off whether it was executed; without it, a person is asked. Not needed otherwise:
-- SELECT ON system.query_log, SYSTEM FLUSH LOGS ON *.*
