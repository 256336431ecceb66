# ${service} in ${environment}: a login of its own for each run, from the database engine.
path "${creds}" {
  capabilities = ["read"]
}
