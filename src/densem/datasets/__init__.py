"""Where data comes from: public EM sets and the synthetic phantom."""
