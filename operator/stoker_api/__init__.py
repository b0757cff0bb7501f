"""The words of Stoker: CRD models, names, conditions, wire types shared by operator and gateway."""
