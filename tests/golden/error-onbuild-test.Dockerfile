FROM debian
ONBUILD TEST true
