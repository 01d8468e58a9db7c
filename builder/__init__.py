"""Recipe -> Plan -> layers -> image."""
