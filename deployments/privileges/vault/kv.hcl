# ${service} in ${environment}: its login, from the key-value store.
path "${mount}/data/${path}" {
  capabilities = ["read"]
}
