"""Facts of the exchange: sessions, sectors, policy, the feature contract, the contracts of the raw tables."""
