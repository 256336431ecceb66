# ${service} in ${environment}: where its database is and its login, from the key-value store.
path "${mount}/data/${path}" {
  capabilities = ["read"]
}
