"""Server connections and who may use them."""
